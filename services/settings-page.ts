import { describeSettings } from "#config/describe-settings.ts";
import { criPlugins } from "./cri/plugins.ts";
import { allPlugins } from "./plugins.ts";

const introduction = `<!-- Made by \`npm run gen\` from the manifests of plugins. -->
# Settings

What may stand in \`[plugins."TYPE.ID"]\` of the configuration file. Durations are written as Go does, such as \`"1m30s"\`. \`NAME\` stands for a key of
your choice. A key that is not here is warned of and left out; \`flotilla config default\` prints all of them, and \`flotilla config dump\` what a file
comes to.

What has a ↻ changes while the daemon runs, with all that stands in it, when it gets a SIGHUP; everything else holds from the next start on.
`;

/** The text of SETTINGS.md. */
export function settingsPage(): string {
  const groups = [
    {
      heading: "Plugins of the fleet",
      text: "What the processes of the fleet read.",
      plugins: allPlugins.filter((plugin) => !criPlugins.includes(plugin)),
    },
    {
      heading: "Plugins of Kubernetes",
      text: "What the process `cri` reads, which is not started where they are disabled. What is set and has no effect is told of in the log at the start.",
      plugins: criPlugins,
    },
  ];
  return `${introduction}\n${describeSettings(groups)}`;
}
