# DBD::Pg: lists of tables and types, prepared statements, transactions, ping, two phases.
use strict; use warnings;
use DBI;
my $account = $ENV{ACCOUNT} // 1;
my $db = DBI->connect('dbi:Pg:', undef, undef, {RaiseError => 1, PrintError => 0, AutoCommit => 1});
die unless $db->selectrow_array('SELECT 1') == 1;
if (($ARGV[0] // '') eq 'start') { $db->disconnect; exit }
die unless $db->ping;
my @names = @{$db->selectcol_arrayref('SELECT proname FROM pg_catalog.pg_proc WHERE proname = ?', undef, 'deposit')};
die "@names" unless "@names" eq 'deposit';
my @tables = $db->tables(undef, 'public', '%', 'TABLE'); die "@tables" if @tables;
$db->table_info(undef, 'public', '%', undef)->fetchall_arrayref;
$db->column_info(undef, 'public', '%', '%')->fetchall_arrayref;
my $deposit = $db->prepare('CALL deposit(?, ?)');
$deposit->execute($account, '0.5') for 1 .. 3;
$db->begin_work;
$deposit->execute($account, 1);
$db->pg_savepoint('s');
$deposit->execute($account, 100);
$db->pg_rollback_to('s');
$db->commit;
eval { $deposit->execute(-1, 1); 1 } and die 'no error';
die $db->state unless $db->state eq 'P0002';
$db->begin_work;
$deposit->execute($account, 10);
$db->do("PREPARE TRANSACTION 'dbd $account'");
$db->commit; # DBI's own notion, which ends with it
die unless $db->selectrow_array('SELECT gid FROM pg_prepared_xacts WHERE gid = ?', undef, "dbd $account");
$db->do("COMMIT PREPARED 'dbd $account'");
my ($balance) = $db->selectrow_array('SELECT * FROM balance(?)', undef, $account);
die $balance unless $balance == 12.5;
$db->disconnect;
