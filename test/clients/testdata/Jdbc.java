import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import javax.sql.*;
import javax.transaction.xa.*;
import org.postgresql.xa.PGXADataSource;

/** PgJDBC: statements in each query mode, CallableStatement, isValid, savepoints, batches, cancel, XA. */
class Jdbc {
    static final long ACCOUNT = Long.parseLong(System.getenv("ACCOUNT")), OTHER = ACCOUNT + 1;
    static final String URL = System.getenv("FDT_URL");

    static Connection connect(String options) throws SQLException {
        return DriverManager.getConnection(URL + options);
    }

    interface Work { void run() throws Exception; }

    static void check(boolean ok, Object seen) {
        if (!ok) throw new AssertionError(seen);
    }

    static void fails(String state, Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException e) {
            check(e.getSQLState().equals(state), e.getSQLState() + " " + e);
            return;
        }
        throw new AssertionError("no " + state);
    }

    static void failsXA(int code, Work work) throws Exception {
        try {
            work.run();
        } catch (XAException e) {
            check(e.errorCode == code, e.errorCode + " " + e + " " + e.getCause());
            return;
        }
        throw new AssertionError("no XAException " + code);
    }

    static void deposit(Connection conn, long account, String amount) throws SQLException {
        try (var st = conn.prepareStatement("CALL deposit(?, ?)")) {
            st.setLong(1, account);
            st.setBigDecimal(2, new BigDecimal(amount));
            st.execute();
        }
    }

    static void balance(String want) throws SQLException {
        try (var conn = connect(""); var st = conn.prepareCall("{? = call balance(?)}")) {
            st.registerOutParameter(1, Types.NUMERIC);
            st.setLong(2, ACCOUNT);
            st.execute();
            check(st.getBigDecimal(1).equals(new BigDecimal(want)), st.getBigDecimal(1));
        }
    }

    /** Arguments of every kind come back as they went; from the fifth time on by a named statement, in binary. */
    static void kinds(Connection conn) throws SQLException {
        var json = "{\"k\": [1, null]}";
        Object[] kinds = {true, -7, new BigDecimal("1.50"), 0.1, "back\\slash, 'quote' and ü", new byte[] {0, -1, 92}, new UUID(0, 1),
            LocalDate.of(2024, 2, 29), OffsetDateTime.of(2024, 2, 29, 12, 30, 1, 5000, ZoneOffset.UTC), json,
            conn.createArrayOf("bigint", new Long[] {1L, -2L, 3L})};
        try (var st = conn.prepareStatement("CALL kinds(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, w => ?)")) {
            for (int n = 0; n < 8; n++) {
                for (int i = 0; i < kinds.length; i++) {
                    st.setObject(i + 1, kinds[i]);
                    if (kinds[i] == json) st.setObject(i + 1, json, Types.OTHER);
                }
                st.setString(12, "named");
                check(st.execute(), "no row");
                var row = st.getResultSet();
                check(row.next(), "no row");
                check(row.getBoolean("b") && row.getInt("i") == -7 && row.getBigDecimal("n").equals(kinds[2]), row);
                check(row.getDouble("f") == 0.1 && row.getString("t").equals(kinds[4]), row.getString("t"));
                check(Arrays.equals(row.getBytes("o"), (byte[]) kinds[5]), row.getString("o"));
                check(row.getObject("u", UUID.class).equals(kinds[6]), row.getString("u"));
                check(row.getObject("d", LocalDate.class).equals(kinds[7]), row.getString("d"));
                check(row.getObject("z", OffsetDateTime.class).isEqual((OffsetDateTime) kinds[8]), row.getString("z"));
                check(row.getString("j").equals(json), row.getString("j"));
                check(Arrays.equals((Long[]) row.getArray("a").getArray(), new Long[] {1L, -2L, 3L}), row.getString("a"));
                check(row.getString("w").equals("named") && !row.next(), row);
            }
            for (int i = 1; i <= 12; i++) {
                st.setNull(i, new int[] {Types.BIT, Types.INTEGER, Types.NUMERIC, Types.DOUBLE, Types.VARCHAR, Types.BINARY, Types.OTHER,
                    Types.DATE, Types.TIMESTAMP_WITH_TIMEZONE, Types.OTHER, Types.ARRAY, Types.VARCHAR}[i - 1]);
            }
            var row = st.executeQuery();
            check(row.next() && row.getObject(1) == null && row.getObject(12) == null, row);
        }
    }

    static void statements() throws Exception {
        for (String mode : new String[] {"extended", "extendedForPrepared", "extendedCacheEverything", "simple"}) {
            try (var conn = connect("&preferQueryMode=" + mode)) {
                check(conn.isValid(5) && conn.getMetaData().getDatabaseMajorVersion() == 15, conn.getMetaData());
                if (!mode.equals("simple")) kinds(conn); // in which PgJDBC has no byte[] and no arrays
                deposit(conn, ACCOUNT, "0.25");
                try (var st = conn.createStatement()) {
                    fails("P0002", () -> st.execute("CALL deposit(-1, 1)"));
                    fails("42P01", () -> st.execute("SELECT * FROM account"));
                    fails("0A000", () -> st.execute("DELETE FROM account"));
                    fails("42883", () -> st.execute("CALL nobody()"));
                    var row = st.executeQuery("SELECT * FROM balance(" + ACCOUNT + ")");
                    check(row.next() && row.getBigDecimal("balance").signum() > 0, mode);
                }
            }
        }
        balance("1.00");
    }

    static void calls() throws Exception {
        for (String mode : new String[] {"select", "callIfNoReturn", "call"}) {
            try (var conn = connect("&escapeSyntaxCallMode=" + mode); var st = conn.prepareCall("{call deposit(?, ?)}")) {
                for (int n = 0; n < 6; n++) {
                    st.setLong(1, ACCOUNT);
                    st.setBigDecimal(2, n < 5 ? BigDecimal.ONE : new BigDecimal(-5));
                    st.execute();
                }
            }
        }
        try (var conn = connect("&escapeSyntaxCallMode=call"); var st = conn.prepareCall("{call balance(?)}")) {
            st.setLong(1, ACCOUNT);
            var row = st.executeQuery();
            check(row.next() && row.getBigDecimal(1).equals(new BigDecimal("1.00")), row.getBigDecimal(1));
        }
    }

    static void transactions() throws Exception {
        try (var conn = connect("")) {
            conn.setAutoCommit(false);
            conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            check(conn.getTransactionIsolation() == Connection.TRANSACTION_SERIALIZABLE, conn.getTransactionIsolation());
            deposit(conn, ACCOUNT, "1");
            var plain = conn.setSavepoint();
            var named = conn.setSavepoint("a name");
            deposit(conn, ACCOUNT, "100");
            fails("P0002", () -> deposit(conn, -1, "1"));
            fails("25P02", () -> deposit(conn, ACCOUNT, "1"));
            conn.rollback(named);
            conn.releaseSavepoint(named);
            deposit(conn, ACCOUNT, "100");
            conn.rollback(plain);
            conn.commit();
            deposit(conn, ACCOUNT, "100");
            conn.rollback();
            conn.setReadOnly(true);
            fails("25006", () -> deposit(conn, ACCOUNT, "1"));
            conn.rollback();
            conn.setReadOnly(false);

            // Three hundred serializable calls would fail now and then with 40001, beside others on the same table.
            conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            try (var st = conn.prepareStatement("CALL deposit(?, 1)")) {
                for (int n = 0; n < 300; n++) {
                    st.setLong(1, ACCOUNT);
                    st.addBatch();
                }
                st.executeBatch();
                conn.commit();
                st.setLong(1, ACCOUNT);
                st.addBatch();
                st.setLong(1, -1);
                st.addBatch();
                fails("P0002", st::executeBatch);
            }
            conn.rollback();
            conn.setAutoCommit(true);
            try (var st = conn.createStatement()) {
                st.execute("CALL deposit(" + ACCOUNT + ", -150); CALL deposit(" + ACCOUNT + ", -150)");
                st.setQueryTimeout(1);
                fails("57014", () -> st.execute("CALL nap(60)"));
            }
            check(conn.isValid(5), "after a cancel");
        }
        try (var conn = connect("&autosave=always&cleanupSavepoints=true")) {
            conn.setAutoCommit(false);
            deposit(conn, ACCOUNT, "1");
            fails("P0002", () -> deposit(conn, -1, "1"));
            deposit(conn, ACCOUNT, "1");
            conn.commit();
        }
        balance("4.00");
    }

    static PGXADataSource source() {
        var source = new PGXADataSource();
        source.setURL(URL);
        return source;
    }

    record Id(String name) implements Xid {
        public int getFormatId() { return 99; }
        public byte[] getGlobalTransactionId() { return name.getBytes(); }
        public byte[] getBranchQualifier() { return "branch".getBytes(); }
    }

    /** Does phase one on a connection of its own, which is closed after it. */
    static Id prepared(String name, long account) throws Exception {
        var id = new Id(name);
        var conn = source().getXAConnection();
        var xa = conn.getXAResource();
        xa.start(id, XAResource.TMNOFLAGS);
        if (account > 0) deposit(conn.getConnection(), account, "10");
        xa.end(id, XAResource.TMSUCCESS);
        check(xa.prepare(id) == XAResource.XA_OK, "vote");
        conn.close();
        return id;
    }

    static void twoPhases() throws Exception {
        var conn = source().getXAConnection();
        var xa = conn.getXAResource();
        Id one = prepared("jdbc one", ACCOUNT), two = prepared("jdbc two", OTHER);
        var found = new ArrayList<String>();
        for (var id : xa.recover(XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN)) {
            if (id.getFormatId() == 99) found.add(new String(id.getGlobalTransactionId()));
        }
        check(found.size() == 2 && found.containsAll(List.of("jdbc one", "jdbc two")), found);
        failsXA(XAException.XAER_RMFAIL, () -> prepared("jdbc one", 0));
        xa.commit(one, false);
        xa.rollback(two);
        failsXA(XAException.XAER_NOTA, () -> xa.commit(one, false));
        failsXA(XAException.XAER_NOTA, () -> xa.rollback(new Id("nobody")));
        balance("14.00");

        var id = new Id("one phase");
        for (int n = 0; n < 7; n++) {
            xa.start(id, XAResource.TMNOFLAGS);
            deposit(conn.getConnection(), ACCOUNT, n < 6 ? "1" : "-6");
            xa.end(id, XAResource.TMSUCCESS);
            xa.commit(id, true);
        }
        xa.start(id, XAResource.TMNOFLAGS);
        deposit(conn.getConnection(), ACCOUNT, "1");
        xa.end(id, XAResource.TMFAIL);
        xa.rollback(id);

        // A failed transaction has no vote and is over; its connection goes on.
        xa.start(id, XAResource.TMNOFLAGS);
        fails("P0002", () -> deposit(conn.getConnection(), -1, "1"));
        xa.end(id, XAResource.TMSUCCESS);
        failsXA(XAException.XAER_RMFAIL, () -> xa.prepare(id));
        failsXA(XAException.XAER_RMERR, () -> xa.rollback(id)); // unknown; PgJDBC says it so
        xa.start(id, XAResource.TMNOFLAGS);
        deposit(conn.getConnection(), ACCOUNT, "0");
        xa.end(id, XAResource.TMSUCCESS);
        xa.commit(id, true);
        conn.close();
        balance("14.00");
    }

    public static void main(String[] args) throws Exception {
        statements();
        calls();
        transactions();
        twoPhases();
    }
}
