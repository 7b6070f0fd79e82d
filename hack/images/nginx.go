package main

import v1 "github.com/google/go-containerregistry/pkg/v1"

// nginxUser is the number that the image's server runs as.
const nginxUser = 101

// nginx is the web server, set up for a user that is not root: it listens on port 8080, logs to its outputs and needs no folder to write in but /tmp.
// Files in /etc/nginx/conf.d take the place of its one site, which gives what is in /usr/share/nginx/html.
func nginx(debian *packages) (v1.Image, error) {
	if err := debian.add("nginx", "nginx-common"); err != nil {
		return nil, err
	}
	if !debian.has("usr/sbin/nginx") {
		// Before Debian 12 the package nginx had nothing in it.
		if err := debian.add("nginx-core"); err != nil {
			return nil, err
		}
	}
	files, err := debian.programs("usr/sbin/nginx")
	if err != nil {
		return nil, err
	}
	types, err := debian.read("etc/nginx/mime.types")
	if err != nil {
		return nil, err
	}
	files = append(withUser("nginx", nginxUser), append(files,
		file{name: "etc/nginx/nginx.conf", mode: 0o644, data: []byte(nginxConf)},
		file{name: "etc/nginx/mime.types", mode: 0o644, data: types},
		file{name: "etc/nginx/conf.d/default.conf", mode: 0o644, data: []byte(nginxSite)},
		file{name: "usr/share/nginx/html/index.html", mode: 0o644, data: []byte("nginx works\n")},
		// Opened before the configuration is read.
		file{name: "var/log/nginx/error.log", link: "/dev/stderr"},
	)...)
	return image(inOrder(files), v1.Config{
		User:       "101:101",
		Env:        []string{"PATH=/usr/sbin"},
		Entrypoint: []string{"nginx", "-g", "daemon off;"},
		StopSignal: "SIGQUIT", // ends when the requests at hand are answered
	})
}

// nginxConf is the part that sites needn't know.
const nginxConf = `worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr notice;
events { worker_connections 1024; }
http {
	include mime.types;
	default_type application/octet-stream;
	access_log /dev/stdout;
	client_body_temp_path /tmp/client_body;
	proxy_temp_path /tmp/proxy;
	fastcgi_temp_path /tmp/fastcgi;
	uwsgi_temp_path /tmp/uwsgi;
	scgi_temp_path /tmp/scgi;
	include conf.d/*.conf;
}
`

const nginxSite = `server {
	listen 8080;
	root /usr/share/nginx/html;
}
`
