"""The HTTP ingestion API: POST /ingest → lead.ingest. FastAPI; imports no Spark."""
