"""Where rows come from: Kafka topics and Delta tables."""
