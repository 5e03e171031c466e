"""What the role mysql_replication runs on a database server. `mysql-replication --help` lists the commands."""
