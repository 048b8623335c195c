// A workload certificate for a test program that speaks HBONE by itself, as Node's TLS wants it.
import { CaClient } from "#lib/grpc/ca-client.ts";
import { spiffeId } from "#lib/net/spiffe.ts";
import { createCsr } from "#lib/pki/csr.ts";

export interface CertificateRequest {
  /** `https://host:port` of istiod. */
  readonly ca: string;
  /** `namespace/account`, of the token. */
  readonly account: string;
  readonly root: () => Promise<Uint8Array>;
  readonly token: () => Promise<string>;
}

/** Key, chain and roots, and what HBONE demands of TLS. @throws {GrpcError} as istiod refuses */
export async function obtainCertificate(request: CertificateRequest): Promise<{
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
  readonly minVersion: "TLSv1.3";
  readonly ALPNProtocols: string[];
}> {
  const [namespace = "", serviceAccount = ""] = request.account.split("/");
  using client = new CaClient({
    address: request.ca,
    rootCert: request.root,
    token: request.token,
    clusterId: "Kubernetes",
  });
  const { csrPem, privateKeyPem } = await createCsr(
    spiffeId({ trustDomain: "cluster.local", namespace, serviceAccount }),
  );
  const chain = await client.createCertificate({ csrPem, ttlSeconds: 3600 });
  return {
    key: privateKeyPem,
    cert: chain.slice(0, -1).join(""),
    ca: chain.at(-1) ?? "",
    minVersion: "TLSv1.3",
    ALPNProtocols: ["h2"],
  };
}
