package authn

import "errors"

// errCredentials is the answer to a credential of a kind that this server does not know.
var errCredentials = errors.New("the Authorization header names a credential this server does not know: use a client certificate")
