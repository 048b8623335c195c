import assert from "node:assert/strict";
import { test } from "node:test";
import { LogFilter, LogFilterError } from "./log-filter.ts";

for (const c of [
  { text: "debug", want: "debug", levels: { access: "debug" } },
  { text: "info,access=off", want: "access=off,info", levels: { access: "off", dns: "info" } },
  {
    text: "ztunnel=warn,ztunnel::dns=trace",
    want: "ztunnel::dns=trace,ztunnel=warn,info",
    levels: { ztunnel: "warn", "ztunnel::dns": "trace", ztunnelish: "info" },
  },
  { text: "INFO,access=Warning", want: "access=warn,info", levels: { access: "warn" } },
])
  test(`log filter: ${c.text}`, () => {
    const filter = LogFilter.parse(c.text);
    assert.equal(filter.toString(), c.want);
    for (const [scope, level] of Object.entries(c.levels))
      assert.equal(filter.levelOf(scope), level);
    assert.equal(LogFilter.parse(filter.toString()).toString(), c.want);
  });

for (const text of ["", "loud", "access", "access=", "=info", "access=loud", "a b=info"])
  test(`log filter refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => LogFilter.parse(text), LogFilterError);
  });

test("entries add to the filter they are parsed onto", () => {
  const before = LogFilter.parse("warn,access=debug");
  assert.equal(LogFilter.parse("dns=debug", before).toString(), "access=debug,dns=debug,warn");
  assert.equal(before.toString(), "access=debug,warn");
});
