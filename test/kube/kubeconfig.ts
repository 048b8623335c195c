// Kubeconfig files for test clusters.
import { readFile, writeFile } from "node:fs/promises";
import type { KeyPairFiles } from "./authority.ts";

export interface KubeconfigOptions {
  readonly file: string;
  readonly url: string;
  readonly caFile: string;
  readonly user: { readonly token: string } | KeyPairFiles;
  readonly namespace?: string;
}

/** One cluster, one user, one context named `ambit-test`, all in one file. Returns its path. */
export async function writeKubeconfig(options: KubeconfigOptions): Promise<string> {
  const { user } = options;
  const context = { cluster: "ambit-test", user: "user", namespace: options.namespace };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "ambit-test",
        cluster: {
          server: options.url,
          "certificate-authority-data": await readFile(options.caFile, "base64"),
        },
      },
    ],
    users: [
      {
        name: "user",
        user:
          "token" in user
            ? { token: user.token }
            : {
                "client-certificate-data": await readFile(user.cert, "base64"),
                "client-key-data": await readFile(user.key, "base64"),
              },
      },
    ],
    contexts: [{ name: "ambit-test", context }],
    "current-context": "ambit-test",
  };
  // JSON is YAML
  await writeFile(options.file, JSON.stringify(config, null, 1), { mode: 0o600 });
  return options.file;
}
