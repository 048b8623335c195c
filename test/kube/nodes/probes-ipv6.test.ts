// As probes.test.ts, where kubelets know nothing but IPv6.
import { test } from "node:test";
import { kubeSandbox } from "../kube-sandbox.ts";
import { probesArrive } from "./arriving-probes.ts";

const needs = await kubeSandbox();

test("probes of an enrolled pod arrive, and their verdict counts: IPv6", needs, (t) =>
  probesArrive(t, "ipv6"),
);
