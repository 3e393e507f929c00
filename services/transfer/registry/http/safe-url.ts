/** What queries of the distribution protocol ask for; anything else may be a key to somebody's storage. */
const openNames: readonly string[] = ["ns", "scope", "service", "digest", "mount", "from", "artifactType"];

/**
 * A URL as it may be told to people and logs: without user, password, and the values of its query, but for those that the
 * protocol knows.
 *
 * @source containerd v2.3.4 core/remotes/docker/resolver.go `sanitizedURL`
 */
export function safeUrl(url: URL): string {
  const shown = new URL(url);
  shown.username = "";
  shown.password = "";
  shown.hash = "";
  for (const name of new Set(shown.searchParams.keys())) {
    if (!openNames.includes(name)) {
      shown.searchParams.set(name, "REDACTED");
    }
  }
  return shown.href;
}

/** What was done to which URL, as Go's HTTP client puts it before its failures. @source Go net/http/client.go `Client.do` */
export function describeAttempt({ method, url }: { readonly method: string; readonly url: URL }): string {
  return `failed to do request: ${method.slice(0, 1)}${method.slice(1).toLowerCase()} "${safeUrl(url)}"`;
}
