"""Routes of compliance officers and auditors: erasures, holds, retention, refused attempts."""
