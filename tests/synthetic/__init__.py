"""Events nobody caused: a year's worth of sessions for measurements and tests, the same for the same seed.

texts.py      what people ask and agents answer
tape.py       the log of one session while it is being written: clock, numbers, ids, totals
standing.py   a turn as it stands, as every `turn.*` event carries it
courses.py    the ways a turn can go, each event in the order the provider sends it
patterns.py   whole sessions with blanks for ids, tenant, user and days
crowd.py      who talks, and on which day
copies.py     patterns with their blanks filled, as many events as asked for
loading.py    the same into ClickHouse, with progress
measuring.py  what they cost there: to insert, to keep, to read (reading.py, questions.py)
"""
