import { doc, onSnapshot } from 'firebase/firestore'

// Calls show with the total of a tag, now and after each change, until the returned function is called.
export function watchTotal(db, name, show, fail) {
  return onSnapshot(
    doc(db, 'tags', `t-${name}`),
    (tag) => show(tag.exists() ? tag.data().total : 0),
    fail,
  )
}
