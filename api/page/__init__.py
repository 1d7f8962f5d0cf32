"""The page for people, /uploads: sign in with an API key, send files, follow their import."""
