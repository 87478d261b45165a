<?php // PDO: prepared statements emulated and not, transactions, persistent connections, two phases.
$account = (int) getenv('ACCOUNT');
$connect = fn($options = []) => new PDO('pgsql:', null, null, $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$want = function ($got, $wanted) { if ($got != $wanted) throw new Exception(var_export($got, true) . ' is not ' . var_export($wanted, true)); };
$db = $connect();
$want($db->query('SELECT 1')->fetchColumn(), 1);
if (($argv[1] ?? '') === 'start') exit;
$list = $db->prepare('SELECT proname FROM pg_catalog.pg_proc WHERE proname = ?');
$list->execute(['deposit']);
$want($list->fetchAll(PDO::FETCH_COLUMN), ['deposit']);
foreach ([false, true] as $emulate) {
    $db = $connect([PDO::ATTR_EMULATE_PREPARES => $emulate, PDO::ATTR_PERSISTENT => true]); // checked when it is taken again
    $deposit = $db->prepare('CALL deposit(?, ?)');
    for ($i = 0; $i < 3; $i++) $deposit->execute([$account, '0.5']);
    $db->beginTransaction();
    $deposit->execute([$account, 100]);
    $db->rollBack();
    $db->beginTransaction();
    $deposit->execute([$account, 1]);
    $db->commit();
    try {
        $deposit->execute([-1, 1]);
        throw new Exception('no error');
    } catch (PDOException $e) {
        $want($e->getCode(), 'P0002');
    }
    $db->query('BEGIN');
    $deposit->execute([$account, 10]);
    $db->query("PREPARE TRANSACTION 'pdo $account'");
    $want($db->query("SELECT gid FROM pg_prepared_xacts WHERE gid = 'pdo $account'")->fetchColumn(), "pdo $account");
    $db->query("COMMIT PREPARED 'pdo $account'");
}
$balance = $db->prepare('SELECT * FROM balance(:a)', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]); // DECLARE … SCROLL CURSOR WITH HOLD
$balance->execute(['a' => $account]);
$want($balance->fetchColumn(), '25');
unset($balance);
$balance = $db->prepare('SELECT * FROM balance(?)');
$balance->execute([$account]);
$want($balance->fetchColumn(), '25');
