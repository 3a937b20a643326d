// A fake of Accrue for tests. It counts each key once, as Accrue does, and fails on demand.
import { createServer } from 'node:http'
import { once } from 'node:events'

/** Starts a server until the end of a test. `fault(request, counted)` may answer in its place: it returns true if it did. */
export async function startAccrue(t, fault = () => false) {
  const accrue = { totals: new Map(), keys: new Set(), requests: [], url: '' }
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const part of request) {
      body += part
    }
    const { increments = [], contributions = [] } = JSON.parse(body)
    const key = request.headers['idempotency-key']
    accrue.requests.push({ key, body, path: request.url, type: request.headers['content-type'] })
    const count = () => {
      for (const [i, { name, value = 1, contributor, id }] of [...increments, ...contributions].entries()) {
        const known = id ?? `${key} ${i}`
        if (!accrue.keys.has(known)) {
          accrue.keys.add(known)
          accrue.totals.set(name ?? contributor, (accrue.totals.get(name ?? contributor) ?? 0) + value)
        }
      }
    }
    if (fault({ request, response, body, count, number: accrue.requests.length })) {
      return
    }
    count()
    response.writeHead(202, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify({ accepted: increments.length + contributions.length }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  accrue.url = `http://127.0.0.1:${server.address().port}`
  return accrue
}

/** Answers with a problem document. */
export function problem(response, status, members = {}, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/problem+json', ...headers })
  response.end(JSON.stringify({ status, title: '', ...members }))
}
