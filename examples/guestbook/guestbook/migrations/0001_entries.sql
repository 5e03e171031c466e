-- The unique key is the index of the list, newest first, in words that MySQL and SQLite both know.
CREATE TABLE IF NOT EXISTS entries (
  id CHAR(36) NOT NULL PRIMARY KEY,
  author VARCHAR(60) NOT NULL,
  message VARCHAR(1000) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  CONSTRAINT entries_by_time UNIQUE (created_at, id)
)
