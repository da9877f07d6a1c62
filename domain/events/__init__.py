"""Every event of the log: payloads, the topics they are stored under, the forms they had."""
