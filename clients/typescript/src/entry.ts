/** An increment of a tag. */
export interface Increment {
  /** The tag: 3 to 15 characters from a to z and _. */
  readonly name: string
  /** What its total grows by: an integer from 1 to 9. */
  readonly value: number
  /** Who contributed: 1 to 128 characters, none of them a control character. */
  readonly contributor?: string
  /**
   * An idempotency key for producers that can name what they count, such as the id of an order: 1 to 255 visible ASCII
   * characters, unique among all entries of all producers. An entry that is added again with the same id, by another client or
   * after a crash, is counted once. Without an id, the client's own key protects its retries.
   */
  readonly id?: string
}

/** A contribution alone. */
export interface Contribution {
  readonly contributor: string
  readonly id?: string
}

/** What a client counts. */
export type Entry = Increment | Contribution

/** The two kinds of requests, by the name of the list in their body and of their path. */
export type Kind = 'increments' | 'contributions'

export function kindOf(entry: Entry): Kind {
  return 'name' in entry ? 'increments' : 'contributions'
}

const namePattern = /^[a-z_]{3,15}$/
const idPattern = /^[!-~]{1,255}$/
const notText = /[\p{Cc}\p{Cs}]/u // control characters, and surrogates without their other half
const maxContributor = 128

/** Returns every rule that the entry breaks. They are those of the API. */
export function faultsOf(entry: Entry): string[] {
  const faults: string[] = []
  const check = (holds: boolean, rule: string): void => {
    if (!holds) {
      faults.push(rule)
    }
  }
  const { name, value, contributor, id } = entry as Partial<Increment>
  if ('name' in entry || 'value' in entry) {
    check(typeof name === 'string' && namePattern.test(name), 'name must be 3 to 15 characters from a to z and _')
    check(Number.isInteger(value) && value! >= 1 && value! <= 9, 'value must be an integer from 1 to 9')
  } else {
    check(contributor !== undefined, 'name and value, or contributor, must be given')
  }
  check(contributor === undefined || validContributor(contributor),
    `contributor must be 1 to ${maxContributor} characters, without control characters`)
  check(id === undefined || (typeof id === 'string' && idPattern.test(id)), 'id must be 1 to 255 visible ASCII characters, without spaces')
  return faults
}

function validContributor(id: unknown): boolean {
  return typeof id === 'string' && id !== '' && id.length <= 2 * maxContributor && !notText.test(id) && [...id].length <= maxContributor
}

/** Returns the entry in JSON, with only the fields that the API knows. */
export function encode(entry: Entry): string {
  const { name, value, contributor, id } = entry as Partial<Increment>
  return JSON.stringify({ name, value, contributor, id })
}
