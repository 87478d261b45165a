# ruby-pg: its type maps read pg_type; prepared statements, transactions, two phases.
require 'pg'
account = (ENV['ACCOUNT'] || 1).to_i
db = PG.connect
raise unless db.exec('SELECT 1').getvalue(0, 0) == '1'
(db.close; exit) if ARGV == ['start']
raise unless db.exec_params('SELECT proname FROM pg_catalog.pg_proc WHERE proname = $1', ['deposit']).values == [['deposit']]
db.type_map_for_results = PG::BasicTypeMapForResults.new(db)
db.type_map_for_queries = PG::BasicTypeMapForQueries.new(db)
db.exec_params('CALL deposit($1, $2)', [account, 1])
db.prepare('deposit', 'CALL deposit($1, $2)')
3.times { db.exec_prepared('deposit', [account, 1]) }
db.transaction { |c| c.exec_params('CALL deposit($1, $2)', [account, 1]) }
begin
  db.transaction { |c| c.exec_params('CALL deposit($1, $2)', [account, 100]); c.exec_params('CALL deposit($1, $2)', [-1, 1]) }
  raise 'no error'
rescue PG::NoDataFound
end
db.transaction do |c|
  c.exec("DECLARE c CURSOR FOR SELECT * FROM balance(#{account})")
  raise unless c.exec('FETCH ALL FROM c').ntuples == 1
end
db.exec('BEGIN')
db.exec_params('CALL deposit($1, $2)', [account, 10])
db.exec("PREPARE TRANSACTION 'ruby #{account}'")
db.reset # a new connection decides
raise unless db.exec_params('SELECT gid FROM pg_prepared_xacts WHERE gid = $1', ["ruby #{account}"]).ntuples == 1
db.exec("COMMIT PREPARED 'ruby #{account}'")
balance = db.exec_params('SELECT * FROM balance($1)', [account]).getvalue(0, 0)
raise balance.to_s unless balance.to_i == 15
db.close
