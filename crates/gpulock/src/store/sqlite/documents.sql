-- Texts that are kept under a name. The table came after format 1, and a program that knows
-- nothing of it goes on using the file: so it is made when it is first written to.

-- The text comes last: whoever wants to know the version alone reads nothing of it.
CREATE TABLE IF NOT EXISTS document (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
