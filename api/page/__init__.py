"""Pages for people: /uploads (send files, follow their import) and /ops (what flows, what was refused)."""
