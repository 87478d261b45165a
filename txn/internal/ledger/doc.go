// Package ledger is what the processes of one fdt write down of transactions and
// agree on: a log in which each notes and forces what it promises and decides, and
// a claim on each transaction that more than one process may work on. What was
// forced no crash takes back; a claim is only a copy of what the logs say, for all
// to find, and is made anew from them.
//
// It knows neither sessions nor resources, and decides nothing.
package ledger
