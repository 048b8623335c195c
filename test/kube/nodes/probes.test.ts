// Kubelets reach the pods of the mesh: their HTTP, TCP and exec probes arrive at the program itself, also where nobody
// else may come without a certificate. IPv4 alone, and both families.
import { test } from "node:test";
import { kubeSandbox } from "../kube-sandbox.ts";
import { probesArrive } from "./arriving-probes.ts";

const needs = await kubeSandbox();

test("probes of an enrolled pod arrive, and their verdict counts: IPv4", needs, (t) =>
  probesArrive(t, "ipv4"),
);

test("probes of an enrolled pod arrive, and their verdict counts: dual stack", needs, (t) =>
  probesArrive(t, "dual"),
);
