-- Tables with the columns of PlaceOS that matter here, and a change feed that behaves like its eventbus: a row in
-- eventbus_cdc_events and a notice on the channel cdc_events for each change. Written from the reference, not copied.
CREATE TABLE zone (
  id text PRIMARY KEY, name text, display_name text, description text, location text, tags text[] DEFAULT '{}',
  count integer DEFAULT 0, capacity integer DEFAULT 0, map_id text, timezone text, parent_id text,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE sys (
  id text PRIMARY KEY, name text, display_name text, description text, email text, zones text[] DEFAULT '{}',
  modules text[] DEFAULT '{}', features text[] DEFAULT '{}', bookable boolean DEFAULT false,
  capacity integer DEFAULT 0, map_id text, timezone text, support_url text,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE driver (
  id text PRIMARY KEY, name text, description text, module_name text, role integer DEFAULT 1, file_name text,
  commit text, compilation_output text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE mod (
  id text PRIMARY KEY, name text, custom_name text, driver_id text, control_system_id text, edge_id text,
  ip text, uri text, role integer DEFAULT 1, running boolean DEFAULT false, connected boolean DEFAULT true,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE "user" (
  id text PRIMARY KEY, name text, nickname text, first_name text, last_name text, email text, password_digest text);
CREATE TABLE broker (
  id text PRIMARY KEY, name text, description text DEFAULT '', auth_type integer DEFAULT 2, host text,
  port integer DEFAULT 1883, tls boolean DEFAULT false, username text, password text, certificate text, secret text,
  filters text[] DEFAULT '{}', created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE eventbus_cdc_events (
  id bigserial PRIMARY KEY, event_table text, event_action text, row_id text, event_data jsonb, at timestamptz
  DEFAULT now());

CREATE FUNCTION eventbus_notify_change_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed record;
  number bigint;
BEGIN
  IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
  INSERT INTO eventbus_cdc_events (event_table, event_action, row_id, event_data)
    VALUES (TG_TABLE_NAME, lower(TG_OP), changed.id, to_jsonb(changed)) RETURNING id INTO number;
  PERFORM pg_notify('cdc_events', json_build_object('logid', number, 'timestamp', now(), 'schema', TG_TABLE_SCHEMA,
    'table', TG_TABLE_NAME, 'action', lower(TG_OP), 'id', changed.id)::text);
  RETURN changed;
END $$;

DO $$
DECLARE watched text;
BEGIN
  FOREACH watched IN ARRAY ARRAY['zone', 'sys', 'driver', 'mod', 'broker'] LOOP
    EXECUTE format('CREATE TRIGGER eventbus_notify_change_event AFTER INSERT OR UPDATE OR DELETE ON %I
      FOR EACH ROW EXECUTE FUNCTION eventbus_notify_change_event()', watched);
  END LOOP;
END $$;
