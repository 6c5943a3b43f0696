// Asks a ClickHouse server over HTTP with clickhouse-go and prints the answers.
//
//	asks URL FILE
//
// FILE holds a JSON array of statements. Each answer is one line: a JSON array of rows, each an
// array of values; instants are RFC 3339 in UTC, decimals strings, what is not a number null.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var statements []string
	if err := json.Unmarshal(text, &statements); err != nil {
		return err
	}
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return err
	}
	connection, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	for _, statement := range statements {
		if err := ask(ctx, connection, statement); err != nil {
			return fmt.Errorf("%w in %s", err, statement)
		}
	}
	return nil
}

func ask(ctx context.Context, connection driver.Conn, statement string) error {
	rows, err := connection.Query(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	answer := [][]any{}
	types := rows.ColumnTypes()
	for rows.Next() {
		targets := make([]any, len(types))
		for i, column := range types {
			targets[i] = reflect.New(column.ScanType()).Interface()
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		row := make([]any, len(types))
		for i, target := range targets {
			row[i] = plain(reflect.ValueOf(target).Elem(), types[i].DatabaseTypeName())
		}
		answer = append(answer, row)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}

func plain(value reflect.Value, name string) any {
	if value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
		if value.IsNil() {
			return nil
		}
		return plain(value.Elem(), name)
	}
	switch known := value.Interface().(type) {
	case time.Time:
		if strings.Contains(name, "DateTime") {
			return known.UTC().Format(time.RFC3339Nano)
		}
		return known.Format(time.DateOnly)
	case decimal.Decimal:
		return known.String()
	}
	switch value.Kind() {
	case reflect.Float32, reflect.Float64:
		if math.IsNaN(value.Float()) || math.IsInf(value.Float(), 0) {
			return nil
		}
	case reflect.Slice, reflect.Array:
		items := make([]any, value.Len())
		for i := range items {
			items[i] = plain(value.Index(i), name)
		}
		return items
	case reflect.Map:
		entries := map[string]any{}
		for _, key := range value.MapKeys() {
			entries[fmt.Sprint(key.Interface())] = plain(value.MapIndex(key), name)
		}
		return entries
	}
	return value.Interface()
}
