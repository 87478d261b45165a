import java.sql.DriverManager;

/** PgJDBC as it starts; what else it does is in Jdbc.java and Pool.java. */
public class Start {
    public static void main(String[] args) throws Exception {
        var url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (var db = DriverManager.getConnection(url, System.getenv("PGUSER"), ""); var st = db.createStatement(); var rows = st.executeQuery("SELECT 1")) {
            if (!rows.next() || rows.getInt(1) != 1) throw new AssertionError();
        }
    }
}
