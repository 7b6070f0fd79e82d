package main

import v1 "github.com/google/go-containerregistry/pkg/v1"

// redisUser is the number that the image's server runs as, so that kubelets can see that it is not root.
const redisUser = 999

// redis is the database: its server and its client. It keeps what it writes, if it is told to, in /data.
func redis(debian *packages) (v1.Image, error) {
	if err := debian.add("redis-server", "redis-tools"); err != nil {
		return nil, err
	}
	files, err := debian.programs("usr/bin/redis-server", "usr/bin/redis-cli")
	if err != nil {
		return nil, err
	}
	files = append(withUser("redis", redisUser), append(files, file{name: "data/", mode: 0o755, owner: redisUser})...)
	return image(inOrder(files), v1.Config{
		User:       "999:999",
		Env:        []string{"PATH=/usr/bin"},
		WorkingDir: "/data",
		Entrypoint: []string{"redis-server", "--dir", "/data", "--protected-mode", "no"},
	})
}
