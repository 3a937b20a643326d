// What the address of the board holds: ?q=…&sort=…&range=…&scale=… and #tags, #people, #tag/{name}?range=… or #person/{id}.

// parts returns the parameters of an address, whatever is written there.
export function parts(search) {
  const given = new URLSearchParams(search);
  const [, falling, by] = /^(-?)(name|total|rate|change)$/.exec(given.get('sort') ?? '') ?? [];
  return {
    text: name(given.get('q') ?? ''),
    order: by ? { by, falling: falling === '-' } : { by: 'total', falling: true },
    range: given.get('range') ?? '',
    common: given.get('scale') === 'common',
  };
}

// written is the search part of an address. What is usual is left out.
export function written({ text, order, range, common }) {
  const given = new URLSearchParams();
  if (text) given.set('q', text);
  if (order.by !== 'total' || !order.falling) given.set('sort', `${order.falling ? '-' : ''}${order.by}`);
  if (range) given.set('range', range);
  if (common) given.set('scale', 'common');
  const search = given.toString();
  return search ? `?${search}` : '';
}

// place returns what a fragment names: {view, tag, person, range}. Fragments are typed and shortened by anybody: what has no
// meaning is the list of tags.
export function place(hash) {
  const [path, search] = hash.replace(/^#/, '').split('?');
  const range = new URLSearchParams(search ?? '').get('range') ?? '';
  if (path.startsWith('tag/') && /^[a-z_]{3,15}$/.test(path.slice(4))) return { tag: path.slice(4), range };
  if (path.startsWith('person/')) {
    try {
      const person = decodeURIComponent(path.slice(7));
      if (person) return { person };
    } catch {
      // Not an id.
    }
  }
  return { view: path === 'people' ? 'people' : 'tags' };
}

export const tagPlace = (tag, range = '') => `#tag/${tag}${range ? `?range=${range}` : ''}`;
export const personPlace = (id) => `#person/${encodeURIComponent(id)}`;

// name is a text with the characters of names alone.
export function name(text) {
  return text.toLowerCase().replace(/[^a-z_]/g, '').slice(0, 15);
}
