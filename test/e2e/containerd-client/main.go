// A client of containerd 2: does one thing with images through the Transfer and Streaming services, as its Go client
// does them, and tells its progress in lines of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/containerd/v2/core/transfer/archive"
	"github.com/containerd/containerd/v2/core/transfer/image"
	"github.com/containerd/containerd/v2/core/transfer/registry"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const usage = `containerd-client [flags] <command> <arguments>

  pull <reference>             from its registry into the store
  push <name> <reference>      from the store to a registry
  import                       an archive on standard input into the store
  export <name>...             images of the store as an archive on standard output
  tag <name> <new name>        another name for an image

Progress and debugging output of registries go to standard error.
`

type options struct {
	address, namespace        string
	plainHTTP, dump           bool
	hostDir, user             string
	platforms                 []ocispec.Platform
	allPlatforms, allMetadata bool
	unpack                    bool
	snapshotter               string
	labels                    map[string]string
	prefix, digestPrefix      string
	overwrite, skipNamed      bool
	forceCompress             bool
	skipDocker, skipForeign   bool
	timeout                   time.Duration
	headers                   map[string][]string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	o, arguments, err := readOptions()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	client, err := containerd.New(o.address, containerd.WithDefaultNamespace(o.namespace))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx = namespaces.WithNamespace(ctx, o.namespace)
	source, destination, err := ends(ctx, o, arguments)
	if err != nil {
		return err
	}
	return client.Transfer(ctx, source, destination, transfer.WithProgress(tell))
}

// ends says from where to where a command goes.
func ends(ctx context.Context, o options, arguments []string) (any, any, error) {
	command, arguments := arguments[0], arguments[1:]
	is := func(name string, count int) bool { return command == name && len(arguments) == count }
	switch {
	case is("pull", 1):
		source, err := openRegistry(ctx, o, arguments[0])
		return source, image.NewStore(arguments[0], storeOptions(o)...), err
	case is("push", 2):
		destination, err := openRegistry(ctx, o, arguments[1])
		return image.NewStore(arguments[0], image.WithPlatforms(o.platforms...)), destination, err
	case is("import", 0):
		var archiveOptions []archive.ImportOpt
		if o.forceCompress {
			archiveOptions = append(archiveOptions, archive.WithForceCompression)
		}
		source := archive.NewImageImportStream(os.Stdin, "", archiveOptions...)
		return source, image.NewStore("", storeOptions(o)...), nil
	case command == "export" && len(arguments) > 0:
		var names []image.StoreOpt
		for _, name := range arguments {
			names = append(names, image.WithExtraReference(name))
		}
		return image.NewStore("", names...), archive.NewImageExportStream(os.Stdout, "", exportOptions(o)...), nil
	case is("tag", 2):
		return image.NewStore(arguments[0]), image.NewStore(arguments[1]), nil
	}
	return nil, nil, errors.New(usage)
}

func openRegistry(ctx context.Context, o options, reference string) (*registry.OCIRegistry, error) {
	wishes := []registry.Opt{registry.WithHostDir(o.hostDir), registry.WithHeaders(o.headers)}
	if o.user != "" {
		wishes = append(wishes, registry.WithCredentials(staticCredentials(o.user)))
	}
	if o.plainHTTP {
		wishes = append(wishes, registry.WithDefaultScheme("http"))
	}
	if o.dump {
		wishes = append(wishes, registry.WithHTTPDebug(), registry.WithHTTPTrace(), registry.WithClientStream(standardError{}))
	}
	return registry.NewOCIRegistry(ctx, reference, wishes...)
}

// standardError takes what the daemon tells of requests; the client closes it before all is said.
type standardError struct{}

func (standardError) Write(text []byte) (int, error) { return os.Stderr.Write(text) }

func (standardError) Close() error { return nil }

// staticCredentials answers the daemon, which asks on a stream for who we are.
type staticCredentials string

func (c staticCredentials) GetCredentials(_ context.Context, _, host string) (registry.Credentials, error) {
	name, secret, _ := strings.Cut(string(c), ":")
	return registry.Credentials{Host: host, Username: name, Secret: secret}, nil
}

func storeOptions(o options) []image.StoreOpt {
	wishes := []image.StoreOpt{image.WithImageLabels(o.labels)}
	if !o.allPlatforms {
		wishes = append(wishes, image.WithPlatforms(o.platforms...))
	}
	if o.allMetadata {
		wishes = append(wishes, image.WithAllMetadata)
	}
	if o.prefix != "" {
		wishes = append(wishes, image.WithNamedPrefix(o.prefix, o.overwrite))
	}
	if o.digestPrefix != "" {
		wishes = append(wishes, image.WithDigestRef(o.digestPrefix, o.overwrite, o.skipNamed))
	}
	if o.unpack {
		for _, platform := range o.platforms {
			wishes = append(wishes, image.WithUnpack(platform, o.snapshotter))
		}
	}
	return wishes
}

func exportOptions(o options) []archive.ExportOpt {
	var wishes []archive.ExportOpt
	if o.allPlatforms {
		wishes = append(wishes, archive.WithAllPlatforms)
	} else {
		for _, platform := range o.platforms {
			wishes = append(wishes, archive.WithPlatform(platform))
		}
	}
	if o.skipDocker {
		wishes = append(wishes, archive.WithSkipCompatibilityManifest)
	}
	if o.skipForeign {
		wishes = append(wishes, archive.WithSkipNonDistributableBlobs)
	}
	return wishes
}

func tell(progress transfer.Progress) {
	line, err := json.Marshal(progress)
	if err == nil {
		fmt.Fprintf(os.Stderr, "progress: %s\n", line)
	}
}

func readOptions() (options, []string, error) {
	o := options{labels: map[string]string{}, headers: map[string][]string{}}
	var platform string
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage); flag.PrintDefaults() }
	flag.StringVar(&o.address, "address", "", "socket of the daemon")
	flag.StringVar(&o.namespace, "namespace", "default", "namespace of the images")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "how long it may take")
	flag.BoolVar(&o.plainHTTP, "plain-http", false, "speak HTTP with the registry")
	flag.StringVar(&o.hostDir, "hosts-dir", "", "directory with a hosts.toml for each registry")
	flag.StringVar(&o.user, "user", "", "name:password, or :token")
	flag.BoolVar(&o.dump, "http-dump", false, "show what is said to the registry")
	flag.StringVar(&platform, "platform", platforms.DefaultString(), "platforms, with commas")
	flag.BoolVar(&o.allPlatforms, "all-platforms", false, "all of them")
	flag.BoolVar(&o.allMetadata, "all-metadata", false, "manifests of all platforms")
	flag.BoolVar(&o.unpack, "unpack", false, "unpack what comes in")
	flag.StringVar(&o.snapshotter, "snapshotter", "", "by which snapshotter")
	flag.StringVar(&o.prefix, "prefix", "", "prefix of the names of what comes in")
	flag.StringVar(&o.digestPrefix, "digest-prefix", "", "prefix of names by digest")
	flag.BoolVar(&o.overwrite, "overwrite", false, "these names may be taken from others")
	flag.BoolVar(&o.skipNamed, "skip-named", false, "no name by digest for what has another")
	flag.BoolVar(&o.forceCompress, "force-compress", false, "compress plain layers")
	flag.BoolVar(&o.skipDocker, "skip-docker-manifest", false, "no manifest.json in the archive")
	flag.BoolVar(&o.skipForeign, "skip-foreign", false, "no layers that may not be distributed")
	flag.Func("label", "key=value for the image", func(text string) error {
		key, value, _ := strings.Cut(text, "=")
		o.labels[key] = value
		return nil
	})
	flag.Func("header", "key=value for the registry", func(text string) error {
		key, value, _ := strings.Cut(text, "=")
		o.headers[key] = append(o.headers[key], value)
		return nil
	})
	flag.Parse()
	if flag.NArg() == 0 {
		return o, nil, errors.New(usage)
	}
	wanted, err := platforms.ParseAll(strings.Split(platform, ","))
	o.platforms = wanted
	return o, flag.Args(), err
}
