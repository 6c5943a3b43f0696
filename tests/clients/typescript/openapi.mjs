// What Redocly's linter finds in a document under its recommended rules: node openapi.mjs FILE prints JSON [text].
import { createConfig, lint } from '@redocly/openapi-core'

// Probes refuse nobody; why the others do is tested by the table that declares it.
const rules = { 'operation-4xx-response': 'off' }
const config = await createConfig({ extends: ['recommended'], rules })
const problems = await lint({ ref: process.argv[2], config })
const found = problems.map(({ ruleId, message, location, severity }) =>
  `${severity} ${ruleId} at ${location[0]?.pointer}: ${message}`)
process.stdout.write(JSON.stringify(found))
