import com.zaxxer.hikari.HikariDataSource;
import java.sql.SQLException;
import java.util.*;
import java.util.concurrent.atomic.AtomicInteger;

/** HikariCP, which asks isValid when it lends a connection: no error ever comes through. Runs until its input ends. */
class Pool {
    static final long ACCOUNT = Long.parseLong(System.getenv("ACCOUNT")), OTHER = ACCOUNT + 1;
    static volatile boolean enough;

    public static void main(String[] args) throws Exception {
        System.setProperty("com.zaxxer.hikari.aliveBypassWindowMs", "-1"); // always ask
        var pool = new HikariDataSource();
        pool.setJdbcUrl(System.getenv("FDT_URL"));
        pool.setMaximumPoolSize(3);
        pool.getConnection().close(); // a cold JVM takes longer than fdt here waits for idle connections
        var made = new AtomicInteger();
        var faults = Collections.synchronizedList(new ArrayList<Exception>());
        var threads = new ArrayList<Thread>();
        for (int n = 0; n < 4; n++) {
            var thread = new Thread(() -> {
                while (!enough) {
                    try (var conn = pool.getConnection(); var st = conn.createStatement()) {
                        conn.setAutoCommit(false);
                        st.execute("CALL deposit(" + ACCOUNT + ", 1)");
                        st.execute("CALL deposit(" + OTHER + ", -1)");
                        conn.commit();
                        made.incrementAndGet();
                        Thread.sleep(1);
                    } catch (SQLException | InterruptedException e) {
                        faults.add(e);
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        System.out.println("ready");
        while (System.in.read() >= 0) {}
        enough = true;
        for (var thread : threads) thread.join();
        for (var fault : faults) fault.printStackTrace();
        System.out.println(made + " 0");
        if (!faults.isEmpty()) System.exit(1);
    }
}
