"""The ClickHouse engine (chDB) behind ClickHouse's HTTP interface, for one machine.

Clients cannot tell it from `clickhouse-server`: same URL, same parameters, same errors. One
request is one engine handle, so settings of one client never reach another.

    request.py     what a client asked for (URL, headers)
    body.py        the bytes it sent, within the limit, decompressed
    frames.py      ClickHouse's own compression of answers (`compress=1`)
    native.py      the format Native for clients that name a protocol revision
    statement.py   where an INSERT ends and its data begins; which FORMAT a query names
    users.py       who may do what
    guard.py       what a read-only user may say
    sessions.py    handles that outlive a request (`session_id`)
    execute.py     one statement on one handle
    answer.py      status, headers and body of the reply
    app.py         routes and admission
    serve.py       socket, signals, start and stop

Not here: external data in multipart forms and bodies in ClickHouse's own compression (`decompress=1`), which are
refused with a clear error; TLS, and the native TCP protocol.
"""
