import { Client } from '@accrue/client'

const client = new Client({
  url: process.env.ACCRUE_URL ?? 'http://localhost:8080',
  report: ({ entries, error }) => console.log(entries.length, error?.message ?? 'counted'),
})
for (let i = 0; i < 2000; i++) {
  await client.room() // waits while the queue is full
  client.add({ name: 'foo', value: 4, contributor: 'ada' })
}
await client.close() // posts the rest; throws if anything was not counted
