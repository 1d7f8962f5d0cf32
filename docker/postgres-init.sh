#!/bin/bash
# First start of the postgres container: the roles, databases and extension that local/postgres.py makes.
# Passwords come by the environment and reach psql by its own variables, so that they are quoted.
set -euo pipefail
export PGUSER=$POSTGRES_USER

for role in owner writer api reader registry; do
  variable="HEADWATER_${role^^}_PASSWORD"
  psql -v ON_ERROR_STOP=1 -d postgres -v role="headwater_$role" -v password="${!variable}" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
SQL
done
psql -v ON_ERROR_STOP=1 -d postgres <<'SQL'
CREATE DATABASE headwater OWNER headwater_owner;
CREATE DATABASE registry OWNER headwater_registry;
SQL
psql -v ON_ERROR_STOP=1 -d headwater -c 'CREATE EXTENSION IF NOT EXISTS vector'
