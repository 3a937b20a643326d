// A Firebase client that firebase_test.go controls. Each line of its input is an operation,
//
//   {"id": 1, "op": "get", "path": "tags/t-foo"}
//
// and each line of its output is a result, {"id": 1, "ok": …} or {"id": 1, "code": "permission-denied"}. An operation has one
// result; "watch" has one for each total. The client exits at the end of its input.
import { createInterface } from 'node:readline'
import process from 'node:process'
import { initializeApp } from 'firebase/app'
import {
  addDoc, collection, collectionGroup, connectFirestoreEmulator, deleteDoc, doc, getCountFromServer, getDocFromServer,
  getDocsFromServer, getFirestore, increment, limit, onSnapshot, query, runTransaction, setDoc, setLogLevel, terminate,
  updateDoc, writeBatch,
} from 'firebase/firestore'
import { watchTotal } from './watch.js'

const [host, project] = process.argv.slice(2)
setLogLevel('silent') // refusals are expected
const db = getFirestore(initializeApp({ projectId: project }))
connectFirestoreEmulator(db, new URL(`http://${host}`).hostname, Number(new URL(`http://${host}`).port))

const documents = (snapshot) => snapshot.docs.map((d) => d.id)
const change = { total: 1000 }
const operations = {
  get: async (path) => (await getDocFromServer(doc(db, path))).data() ?? null,
  list: async (path) => documents(await getDocsFromServer(collection(db, path))),
  list100: async (path) => documents(await getDocsFromServer(query(collection(db, path), limit(100)))),
  list101: async (path) => documents(await getDocsFromServer(query(collection(db, path), limit(101)))),
  group: async (path) => documents(await getDocsFromServer(query(collectionGroup(db, path), limit(100)))),
  count: async (path) => (await getCountFromServer(collection(db, path))).data().count,
  listen: (path) => new Promise((resolve, reject) => {
    const stop = onSnapshot(query(collection(db, path), limit(100)), (s) => { stop(); resolve(documents(s)) }, reject)
  }),
  set: (path) => setDoc(doc(db, path), change),
  merge: (path) => setDoc(doc(db, path), change, { merge: true }),
  update: (path) => updateDoc(doc(db, path), change),
  increment: (path) => updateDoc(doc(db, path), { total: increment(1) }),
  add: (path) => addDoc(collection(db, path), change),
  delete: (path) => deleteDoc(doc(db, path)),
  batch: (path) => writeBatch(db).set(doc(db, path), change).commit(),
  transaction: (path) => runTransaction(db, async (t) => t.set(doc(db, path), change)),
}

const print = (result) => process.stdout.write(`${JSON.stringify(result)}\n`)

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, path } = JSON.parse(line)
  const refuse = (error) => print({ id, code: error.code ?? String(error) })
  if (op === 'watch') {
    watchTotal(db, path, (total) => print({ id, ok: total }), refuse)
  } else {
    operations[op](path).then((result) => print({ id, ok: result ?? null }), refuse)
  }
}
await terminate(db)
