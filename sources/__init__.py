"""Where rows come from: Kafka topics, Delta tables and uploaded files."""
