// A session played by a client that was generated from the document: node session.js URL KEY SESSION TEXT.
// Prints JSON {opened, again, turn, types, missing}.
import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

declare const process: { argv: string[] }
type Turn = components['schemas']['TurnView']
const ENDS: Turn['status'][] = ['completed', 'interrupted', 'refused', 'failed']
const PATIENCE_MS = 60_000
const [baseUrl, key, session_id, text] = process.argv.slice(2) as [string, string, string, string]
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } })

function given<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined)
    throw new Error(`${answer.response.status}: ${JSON.stringify(answer.error)}`)
  return answer.data
}

async function ended(turn_id: string): Promise<Turn> {
  const until = Date.now() + PATIENCE_MS
  for (;;) {
    const path = { session_id, turn_id }
    const turn = given(await client.GET('/v1/sessions/{session_id}/turns/{turn_id}', { params: { path } }))
    if (ENDS.includes(turn.status)) return turn
    if (Date.now() > until) throw new Error(`turn ${turn_id} is ${turn.status} for ever`)
    await new Promise((done) => setTimeout(done, 100))
  }
}

async function types(): Promise<string[]> {
  const found: string[] = []
  for (let after = 0; ; ) {
    const page = given(await client.GET('/v1/sessions/{session_id}/events', {
      params: { path: { session_id }, query: { after } },
      headers: { Accept: 'application/json' },
    }))
    if (typeof page !== 'object' || !('next_after' in page)) throw new Error('no page of JSON')
    if (page.data.length === 0) return found
    found.push(...page.data.map(({ type }) => type))
    after = page.next_after
  }
}

const body = { user_id: 'u1', session_id }
const opened = await client.POST('/v1/sessions', { body })
const again = await client.POST('/v1/sessions', { body })
given(opened)
const params = { path: { session_id }, header: { 'Idempotency-Key': 'first' } }
const accepted = given(await client.POST('/v1/sessions/{session_id}/turns', { params, body: { content: text } }))
const turn = await ended(accepted.turn_id)
const absent = await client.GET('/v1/sessions/{session_id}', { params: { path: { session_id: `${session_id}-not` } } })
console.log(JSON.stringify({
  opened: opened.response.status,
  again: again.response.status,
  turn,
  types: await types(),
  missing: absent.error?.type,
}))
