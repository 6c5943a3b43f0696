import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Asks a ClickHouse server over HTTP with its JDBC driver and prints the answers.
 *
 * <pre>java Asks.java URL USER FILE</pre>
 *
 * FILE holds statements with a line of dashes between them. Each answer is one line: a JSON array of
 * rows, each an array of values; instants are RFC 3339 in UTC, what is not a number null.
 */
class Asks {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", arguments[1]);
        properties.setProperty("password", "");
        String[] statements = Files.readString(Path.of(arguments[2])).split("\n----\n");
        try (Connection connection = DriverManager.getConnection(arguments[0], properties);
                Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(60);
            for (String text : statements) {
                try (ResultSet answer = statement.executeQuery(text)) {
                    System.out.println(json(rows(answer)));
                }
            }
        }
    }

    private static List<Object> rows(ResultSet answer) throws SQLException {
        ResultSetMetaData columns = answer.getMetaData();
        List<Object> rows = new ArrayList<>();
        while (answer.next()) {
            List<Object> row = new ArrayList<>();
            for (int i = 1; i <= columns.getColumnCount(); i++) {
                boolean instant = columns.getColumnTypeName(i).contains("DateTime");
                Object value = answer.getObject(i);
                row.add(instant && value != null ? answer.getObject(i, ZonedDateTime.class) : value);
            }
            rows.add(row);
        }
        return rows;
    }

    private static String json(Object value) throws SQLException {
        if (value instanceof java.sql.Array array) {
            return json(array.getArray());
        }
        if (value instanceof Object[] items) {
            return json(List.of(items));
        }
        if (value instanceof List<?> items) {
            List<String> parts = new ArrayList<>();
            for (Object item : items) {
                parts.add(json(item));
            }
            return "[" + String.join(",", parts) + "]";
        }
        if (value instanceof Map<?, ?> map) {
            List<String> parts = new ArrayList<>();
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                parts.add(text(entry.getKey()) + ":" + json(entry.getValue()));
            }
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof Double number && (number.isNaN() || number.isInfinite())) {
            return "null";
        }
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return value instanceof BigDecimal decimal ? decimal.toPlainString() : String.valueOf(value);
        }
        if (value instanceof ZonedDateTime time) {
            return text(time.toInstant());
        }
        return text(value);
    }

    private static String text(Object value) {
        return String.valueOf(value).chars().mapToObj(Asks::escaped)
                .collect(Collectors.joining("", "\"", "\""));
    }

    private static String escaped(int c) {
        boolean plain = c >= ' ' && c != '"' && c != '\\';
        return plain ? String.valueOf((char) c) : String.format("\\u%04x", c);
    }
}
