#!/bin/sh
# Starts one broker of the three: fills in its settings, prepares its disk the first time, and becomes Kafka.
# In containers (compose.yaml) and on a plain JVM (cluster.py) alike. What it needs is in its environment:
#   NODE_ID LISTENERS ADVERTISED VOTERS CLUSTER_ID   who it is
#   SETTINGS    the folder with kafka/server.properties and secured.properties
#   CA STORE    the authority's certificate; this broker's key and certificate in one PEM file
#   DATA        where messages are kept
#   RUN         a folder to write the settings to
#   KAFKA_BIN   Kafka's own programs
set -eu
umask 077

sed -e "s|{node_id}|$NODE_ID|g" -e "s|{roles}|broker,controller|g" -e "s|{voters}|$VOTERS|g" \
  -e "s|{listeners}|$LISTENERS|g" -e "s|{advertised}|$ADVERTISED|g" -e "s|{data}|$DATA|g" \
  -e "s|{store}|$STORE|g" -e "s|{ca}|$CA|g" -e "s|{replication}|3|g" -e "s|{min_insync}|2|g" \
  "$SETTINGS/kafka/server.properties" "$SETTINGS/secured.properties" >"$RUN/broker.properties"

"$KAFKA_BIN/kafka-storage.sh" format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$RUN/broker.properties"
exec "$KAFKA_BIN/kafka-server-start.sh" "$RUN/broker.properties"
