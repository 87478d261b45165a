// node-postgres: arguments of all kinds, named statements, errors, transactions, two phases, its pool, cancel.
'use strict'
const assert = require('node:assert/strict')
const { Client, Pool, types } = require('pg')

const account = Number(process.env.ACCOUNT)
const raises = (code, work) => assert.rejects(work, (e) => { assert.equal(e.code, code, e.stack); return true })

async function main() {
  const c = new Client()
  await c.connect()
  const balance = async () => (await c.query('CALL balance($1)', [account])).rows[0].balance

  // Arguments of every kind; a named statement is prepared once.
  const at = new Date('2024-02-29T12:30:01.005Z')
  const kinds = [true, -7, '1.50', 0.1, "back\\slash, 'quote' and ü", Buffer.from([0, 255, 92]),
    '00000000-0000-0000-0000-000000000001', '2024-02-29', at, { k: [1, null] }, ['1', '-2', '3'], 'named']
  types.setTypeParser(types.builtins.DATE, String)
  const text = `CALL kinds(${kinds.slice(1).map((_, i) => `$${i + 1}`)}, w => $12)`
  for (const query of [{ text }, { text, name: 'kinds' }, { text, name: 'kinds' }]) {
    const { rows } = await c.query({ ...query, values: kinds })
    assert.deepEqual(Object.values(rows[0]), kinds)
  }
  const { rows } = await c.query({ text, values: kinds.map(() => null), rowMode: 'array' })
  assert.deepEqual(rows, [kinds.map(() => null)])

  // Errors, and several statements at once, which are one transaction.
  await raises('P0002', () => c.query('CALL deposit($1, $2)', [-1, 1]))
  await raises('42883', () => c.query('CALL nobody()'))
  await raises('22P02', () => c.query('CALL deposit($1, $2)', ['many', 1]))
  await raises('P0002', () => c.query(`CALL deposit(${account}, 1); CALL deposit(-1, 1)`))
  assert.equal((await c.query(`CALL deposit(${account}, 1); CALL deposit(${account}, 1)`)).length, 2)
  assert.equal(await balance(), '2')

  // Transactions; queries are queued, not awaited.
  const all = await Promise.all(['BEGIN', `CALL deposit(${account}, 1)`, 'SAVEPOINT s', `CALL deposit(${account}, 100)`,
    'ROLLBACK TO s', 'COMMIT'].map((q) => c.query(q)))
  assert.deepEqual(all.map((r) => r.command), ['BEGIN', 'CALL', 'SAVEPOINT', 'CALL', 'ROLLBACK', 'COMMIT'])
  await c.query('BEGIN')
  await raises('P0002', () => c.query('CALL deposit(-1, 1)'))
  await raises('25P02', balance)
  assert.equal((await c.query('COMMIT')).command, 'ROLLBACK')
  assert.equal(await balance(), '3')

  // Two phases, the second on another connection.
  for (const [gid, end, want] of [[`one ${account}`, 'COMMIT', '13'], [`two ${account}`, 'ROLLBACK', '13']]) {
    const other = new Client()
    await other.connect()
    await other.query('BEGIN')
    await other.query('CALL deposit($1, 10)', [account])
    await other.query(`PREPARE TRANSACTION '${gid}'`)
    await other.end()
    const found = await c.query('SELECT gid, prepared, owner, database FROM pg_prepared_xacts WHERE gid = $1', [gid])
    assert.equal(found.rows[0].gid, gid)
    assert.ok(found.rows[0].prepared instanceof Date)
    await c.query(`${end} PREPARED '${gid}'`)
    await raises('42704', () => c.query(`ROLLBACK PREPARED '${gid}x'`))
    assert.equal(await balance(), want)
  }

  // The pool; one of its connections asks for another's statement to be cancelled.
  const pool = new Pool({ max: 3, application_name: 'pool', statement_timeout: 60000, lock_timeout: 5000 })
  await Promise.all(Array.from({ length: 20 }, () => pool.query('CALL deposit($1, 1)', [account])))
  assert.equal(await balance(), '33')
  const busy = await pool.connect()
  // A request that overtakes the statement cancels nothing: it is made again.
  let napping = true
  const nap = raises('57014', () => busy.query('CALL nap(60)')).finally(() => { napping = false })
  while (napping) {
    const active = busy._activeQuery || busy.activeQuery // so it is called in older versions
    if (active) new Client().cancel(busy, active)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await nap
  busy.release()
  await pool.end()
  await c.end()
}

main()
