// Package v20170312 stands in for that of a cloud's SDK: every call of it says that it is not there. See the go.mod of flannel.
package v20170312

import "errors"

// ErrAbsent is the answer to every call.
var ErrAbsent = errors.New("this flannel was built without the SDK of Tencent Cloud: the backend tencent-vpc cannot be used")

// What flannel's backend of that cloud names.
type (
	// Filter chooses tables.
	Filter struct {
		Name   *string
		Values []*string
	}
	// Route is one of a table.
	Route struct {
		RouteId                                                 *uint64
		DestinationCidrBlock, GatewayType, GatewayId, RouteType *string
		Enabled                                                 *bool
	}
	// RouteTable is a table.
	RouteTable struct {
		RouteTableId *string
		RouteSet     []*Route
	}
	// DescribeRouteTablesRequest asks for tables.
	DescribeRouteTablesRequest struct{ Filters []*Filter }
	// DescribeRouteTablesResponse has them.
	DescribeRouteTablesResponse struct {
		Response *struct{ RouteTableSet []*RouteTable }
	}
	// CreateRoutesRequest asks for routes to be made, DeleteRoutesRequest to be deleted.
	CreateRoutesRequest struct {
		RouteTableId *string
		Routes       []*Route
	}
	// DeleteRoutesRequest is its opposite.
	DeleteRoutesRequest CreateRoutesRequest
	// Nothing is what these two get.
	Nothing struct{}
	// Client would call the cloud.
	Client struct{}
)

// NewClientWithSecretId makes a client that calls nobody.
func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

// NewDescribeRouteTablesRequest is an empty request.
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

// NewCreateRoutesRequest is an empty request.
func NewCreateRoutesRequest() *CreateRoutesRequest { return &CreateRoutesRequest{} }

// NewDeleteRoutesRequest is an empty request.
func NewDeleteRoutesRequest() *DeleteRoutesRequest { return &DeleteRoutesRequest{} }

// DescribeRouteTables fails.
func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, ErrAbsent
}

// CreateRoutes fails.
func (*Client) CreateRoutes(*CreateRoutesRequest) (*Nothing, error) { return nil, ErrAbsent }

// DeleteRoutes fails.
func (*Client) DeleteRoutes(*DeleteRoutesRequest) (*Nothing, error) { return nil, ErrAbsent }
