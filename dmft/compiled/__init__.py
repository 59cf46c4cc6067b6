"""What is compiled: kept in memory while a process runs, and in the user's cache folder for the next one."""
