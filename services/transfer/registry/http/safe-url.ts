/**
 * A URL as it may be told to people and logs: without user, password, and the values of its query, which may be keys to
 * somebody's storage.
 *
 * @source containerd v2.3.4 core/remotes/docker/resolver.go `sanitizedURL`
 */
export function safeUrl(url: URL): string {
  const shown = new URL(url);
  shown.username = "";
  shown.password = "";
  shown.hash = "";
  for (const name of new Set(shown.searchParams.keys())) {
    if (name !== "ns") {
      shown.searchParams.set(name, "REDACTED");
    }
  }
  return shown.href;
}
