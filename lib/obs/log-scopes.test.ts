import assert from "node:assert/strict";
import { test } from "node:test";
import { LogFilter } from "./log-filter.ts";
import { LogScopes } from "./log-scopes.ts";

test("a new filter reaches loggers that exist, and the initial one brings back the start", () => {
  const lines: string[] = [];
  const scopes = new LogScopes({
    filter: LogFilter.parse("info,dns=warn"),
    format: "plain",
    destination: { write: (line) => void lines.push(line) },
  });
  const dns = scopes.logger("dns");
  assert.equal(scopes.logger("dns"), dns);
  let changes = 0;
  scopes.onChange(() => changes++);
  dns.info({ q: 1 }, "hidden");
  scopes.apply(LogFilter.parse("dns=debug", scopes.filter));
  dns.debug({ q: 2 }, "shown");
  scopes.apply(scopes.initial);
  dns.info({ q: 3 }, "hidden again");
  scopes.apply(LogFilter.parse("off"));
  scopes.logger("xds").error("hidden too");
  assert.equal(changes, 3);
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? "", /\tdebug\tdns\tshown\tq=2\n$/);
});
