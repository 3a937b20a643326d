// How to count and show a tag from elsewhere, for tag pages. at holds the addresses of query, which ends in a slash, and of ingest.

const json = "-H 'Content-Type: application/json'";

export const post = (name, value, ingest) => `curl ${json} -d '{"name":"${name}","value":${value}}' ${ingest}/increments`;

export const snippets = {
  curl: (name, at) => `# count
${post(name, 1, at.ingest)}
# read
curl -s ${at.query}tags/${name}`,

  typescript: (name, at) => `import { Client } from '@accrue/client'

const client = new Client({ url: '${at.ingest}' })
client.add({ name: '${name}', value: 1 })
await client.close() // throws if anything was not counted`,

  go: (name, at) => `import accrue "github.com/accrue/accrue/clients/go"

client, err := accrue.New(accrue.Config{URL: "${at.ingest}"})
if err != nil {
	return err
}
if err := client.Add(ctx, accrue.Entry{Name: "${name}", Value: 1}); err != nil {
	return err
}
return client.Close(ctx) // nil: everything was counted`,

  badge: (name, at) => `[![${name}](${at.query}badges/${name}.svg)](${at.query}#tag/${name})`,
};
