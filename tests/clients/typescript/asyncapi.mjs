// What AsyncAPI's own parser finds in a document: node asyncapi.mjs FILE prints JSON {operations, messages, found}.
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'))
const found = diagnostics
  .filter(({ severity }) => severity <= 1) // errors and warnings
  .map(({ code, message, path }) => `${code} at ${path.join('.')}: ${message}`)
const operations = document ? document.operations().all().map((one) => one.id()) : []
const messages = document ? document.messages().all().map((one) => one.id()) : []
process.stdout.write(JSON.stringify({ operations, messages, found }))
