// The tools of npm that stand on node-postgres, and postgres.js which stands alone, each with no option set.
'use strict'
const assert = require('node:assert/strict')

const account = Number(process.env.ACCOUNT || 1)
const [tool, start] = [process.argv[2], process.argv[3] === 'start']
const gid = `${tool} ${account}`
const failing = (code, work) => assert.rejects(work, (e) => { assert.equal((e.original || e.cause || e).code, code, e.stack); return true })
const PROCS = 'SELECT proname FROM pg_catalog.pg_proc WHERE proname = '

// Each drives its tool to a balance of 12.
const tools = {
  async pg() {
    const { Client } = require('pg') // the rest is in node/client.js
    const db = new Client()
    await db.connect()
    assert.deepEqual((await db.query('SELECT 1 AS one')).rows, [{ one: 1 }])
    await db.end()
    return !start && 'elsewhere'
  },

  async postgres() {
    const sql = require('postgres')()
    assert.deepEqual([...await sql`SELECT 1 AS one`], [{ one: 1 }])
    if (start) return sql.end()
    assert.deepEqual([...await sql`SELECT proname FROM pg_catalog.pg_proc WHERE proname = ANY(${['deposit', 'balance']}) ORDER BY 1`].map((r) => r.proname), ['balance', 'deposit'])
    await sql`CALL deposit(${account}, ${1})`
    await sql.begin(async (sql) => {
      await sql`CALL deposit(${account}, ${1})`
      await sql.savepoint((sql) => sql`CALL deposit(${-1}, ${1})`).catch(() => {})
    })
    await failing('P0002', () => sql.begin((sql) => [sql`CALL deposit(${account}, ${100})`, sql`CALL deposit(${-1}, ${1})`]))
    await sql.begin(async (sql) => {
      await sql`CALL deposit(${account}, ${10})`
      await sql.prepare(gid)
    })
    assert.equal((await sql`SELECT gid FROM pg_prepared_xacts WHERE gid = ${gid}`).length, 1)
    await sql.unsafe(`COMMIT PREPARED '${gid}'`)
    const rows = await sql`SELECT * FROM balance(${account})`.cursor(1, () => {}) || await sql`SELECT * FROM balance(${account})`
    const [{ balance }] = await sql`SELECT * FROM balance(${account})`
    await sql.end()
    return balance
  },

  async sequelize() {
    const { Sequelize, QueryTypes } = require('sequelize')
    const e = process.env
    const url = `postgres://${e.PGUSER}:${encodeURIComponent(e.PGPASSWORD || '')}@${encodeURIComponent(e.PGHOST)}:${e.PGPORT}/${e.PGDATABASE}`
    const db = new Sequelize(url, e.PGSSLMODE === 'verify-full' ? { dialectOptions: { ssl: true }, logging: false } : { logging: false })
    await db.authenticate()
    if (start) return db.close()
    assert.deepEqual(await db.query(PROCS + '?', { replacements: ['deposit'], type: QueryTypes.SELECT }), [{ proname: 'deposit' }])
    assert.deepEqual(await db.getQueryInterface().showAllTables(), [])
    await db.query('CALL deposit($1, $2)', { bind: [account, 1] })
    await db.transaction((transaction) => db.query('CALL deposit(?, ?)', { replacements: [account, 1], transaction }))
    await failing('P0002', () => db.transaction(async (transaction) => {
      await db.query('CALL deposit(?, 100)', { replacements: [account], transaction })
      await db.query('CALL deposit(-1, 100)', { transaction })
    }))
    const t = await db.transaction()
    await db.query('CALL deposit(?, 10)', { replacements: [account], transaction: t })
    await db.query(`PREPARE TRANSACTION '${gid}'`, { transaction: t })
    await t.rollback() // there is none any more
    await db.query(`COMMIT PREPARED '${gid}'`)
    const [{ balance }] = await db.query('SELECT * FROM balance($1)', { bind: [account], type: QueryTypes.SELECT })
    await db.close()
    return balance
  },

  async knex() {
    const db = require('knex')({ client: 'pg', connection: {} })
    assert.deepEqual((await db.raw('SELECT 1 AS one')).rows, [{ one: 1 }])
    if (start) return db.destroy()
    assert.deepEqual((await db.raw(PROCS + '?', ['deposit'])).rows, [{ proname: 'deposit' }])
    assert.deepEqual((await db.select('routine_name').from('information_schema.routines').where('routine_name', 'deposit').limit(1)), [{ routine_name: 'deposit' }])
    assert.equal(await db.schema.hasTable('account'), false)
    await db.raw('CALL deposit(?, ?)', [account, 1])
    await db.transaction(async (tx) => {
      await tx.raw('CALL deposit(?, ?)', [account, 1])
      await tx.transaction((inner) => inner.raw('CALL deposit(-1, 1)')).catch(() => {})
    })
    await failing('P0002', () => db.transaction(async (tx) => {
      await tx.raw('CALL deposit(?, 100)', [account])
      await tx.raw('CALL deposit(-1, 1)')
    }))
    await db.raw(`BEGIN; CALL deposit(${account}, 10); PREPARE TRANSACTION '${gid}'`)
    await db.raw(`COMMIT PREPARED '${gid}'`)
    const [{ balance }] = await db.select('*').from(db.raw('balance(?)', [account]))
    await db.destroy()
    return balance
  },

  async drizzle() {
    const { drizzle } = require('drizzle-orm/node-postgres')
    const { Pool } = require('pg')
    const { sql } = require('drizzle-orm')
    const pool = new Pool()
    const db = drizzle(pool)
    assert.deepEqual((await db.execute(sql`SELECT 1 AS one`)).rows, [{ one: 1 }])
    if (start) return pool.end()
    assert.deepEqual((await db.execute(sql`SELECT proname FROM pg_catalog.pg_proc WHERE proname = ${'deposit'}`)).rows, [{ proname: 'deposit' }])
    await db.execute(sql`CALL deposit(${account}, ${1})`)
    await db.transaction(async (tx) => {
      await tx.execute(sql`CALL deposit(${account}, ${1})`)
      await tx.transaction((inner) => inner.execute(sql`CALL deposit(-1, 1)`)).catch(() => {})
    }, { isolationLevel: 'repeatable read' })
    await failing('P0002', () => db.transaction((tx) => tx.execute(sql`CALL deposit(-1, 1)`)))
    await db.execute(sql.raw(`BEGIN; CALL deposit(${account}, 10); PREPARE TRANSACTION '${gid}'`))
    await db.execute(sql.raw(`COMMIT PREPARED '${gid}'`))
    const { rows: [{ balance }] } = await db.select().from(sql`balance(${account})`).execute().then((rows) => ({ rows }), () => db.execute(sql`SELECT * FROM balance(${account})`))
    await pool.end()
    return balance
  },

  async 'pg-promise'() {
    const pgp = require('pg-promise')()
    const db = pgp({})
    assert.deepEqual(await db.one('SELECT 1 AS one'), { one: 1 })
    if (start) return pgp.end()
    assert.deepEqual(await db.any(PROCS + '$1', ['deposit']), [{ proname: 'deposit' }])
    await db.proc('deposit', [account, 1])
    await db.tx(async (t) => {
      await t.none('CALL deposit($1, $2)', [account, 1])
      await t.tx((inner) => inner.none('CALL deposit(-1, 1)')).catch(() => {})
    })
    await failing('P0002', () => db.tx((t) => t.batch([t.none('CALL deposit($1, 100)', account), t.none('CALL deposit(-1, 1)')]).catch((e) => { throw e.first })))
    await db.task(async (t) => {
      await t.none('BEGIN')
      await t.none('CALL deposit($1, 10)', account)
      await t.none('PREPARE TRANSACTION $1', gid)
    })
    await db.none('COMMIT PREPARED $1', gid)
    const { balance } = await db.one({ name: 'balance', text: 'SELECT * FROM balance($1)', values: [account] })
    assert.equal((await db.func('balance', [account]))[0].balance, balance)
    pgp.end()
    return balance
  },
}

tools[tool]().then((balance) => {
  if (!start && balance !== 'elsewhere') assert.equal(Number(balance), 12)
}).catch((e) => {
  console.error(e)
  process.exit(1)
})
