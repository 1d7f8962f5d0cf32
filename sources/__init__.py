"""Where rows come from: Kafka topics, Delta tables, uploaded files and the queue of their imports."""
