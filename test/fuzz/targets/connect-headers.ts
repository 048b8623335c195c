// CONNECT metadata as text from a peer, alone and as fields of a request.
import assert from "node:assert/strict";
import {
  formatBaggage,
  parseAuthority,
  parseBaggage,
  parseForwardedHost,
} from "#lib/wire/connect-headers.ts";
import { ConnectRequestFields, ConnectResponseFields } from "#lib/wire/connect-message.ts";
import type { FuzzTarget } from "../target.ts";
import { utf8 } from "../target.ts";

export const target: FuzzTarget = {
  name: "connect-headers",
  corpus: utf8(
    "10.0.3.7:8080",
    "[fd00::7]:8080",
    "[::ffff:10.0.3.7]:80",
    "echo.default.svc.cluster.local:80",
    'for="10.0.0.1:4000";host=echo.default',
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=echo,service.name=echo,service.version=v1,cloud.region=r,cloud.availability_zone=z",
    ":method CONNECT\n:authority 10.0.3.7:80\nbaggage a=b\nbaggage c=d\nforwarded host=x",
    ":status 200\nbaggage service.name=a",
    ":method GET\n:scheme http\n:path /\n:authority a",
  ),
  words: [
    "[",
    "]:",
    "::ffff:",
    ":80",
    ":65535",
    ",",
    "=",
    ";host=",
    '"',
    "-",
    "\n",
    ":method ",
    "k8s.pod.name=",
    "%",
  ],
  refusals: [],
  run(bytes) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
    const authority = parseAuthority(text);
    if (authority !== null) {
      const host = authority.kind === "ip" ? authority.ip : authority.host;
      const again = parseAuthority(`${host.includes(":") ? `[${host}]` : host}:${authority.port}`);
      if (!host.endsWith(".")) assert.deepEqual(again, authority);
      assert.ok(authority.port > 0 && authority.port < 65_536);
    }
    const baggage = parseBaggage(text);
    const carried = formatBaggage(baggage);
    assert.equal(formatBaggage(parseBaggage(carried)), carried);
    const host = parseForwardedHost(text);
    assert.notEqual(host, "");
    const request = new ConnectRequestFields();
    const response = new ConnectResponseFields();
    for (const line of text.split("\n")) {
      const blank = line.indexOf(" ");
      const name = blank === -1 ? line : line.slice(0, blank);
      const value = blank === -1 ? "" : line.slice(blank + 1);
      request.onHeader(name, value, false);
      response.onHeader(name, value, false);
    }
    if (request.kind === "connect") assert.ok(!/[\r\n\0]/.test(request.authority ?? ""));
    if (response.status !== null) assert.ok(response.status >= 100 && response.status <= 999);
    return [
      authority?.kind ?? "no authority",
      carried === "" ? "" : "baggage",
      host === null ? "" : "host",
      request.kind,
      response.status === null ? "" : "status",
    ].join(" ");
  },
};
