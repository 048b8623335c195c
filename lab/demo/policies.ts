// The policies that the demo applies, as a user would write them.
import { SHOP } from "./shop.ts";

export const DENY_NAME = "no-visitors";

/** One client of the shop is not served any more. */
export const authorizationPolicy = (): string => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${DENY_NAME}, namespace: ${SHOP}}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/${SHOP}/sa/visitor]}}]}]
`;

/** Nobody without an identity gets in. */
export const peerAuthentication = (): string => `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: ${SHOP}}
spec: {mtls: {mode: STRICT}}
`;
