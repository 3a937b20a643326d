import { totals } from '@accrue/client'

for await (const { totals: all, changed } of totals({ url: process.env.ACCRUE_URL ?? 'http://localhost:8080' })) {
  console.log(`${all.size} tags, ${[...changed].map(([name, total]) => `${name} is ${total}`).join(', ')}`)
}
