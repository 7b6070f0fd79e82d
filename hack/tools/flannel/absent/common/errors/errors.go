// Package errors stands in for that of a cloud's SDK; see the go.mod of flannel.
package errors

// TencentCloudSDKError is what that SDK's calls fail with. Here none does.
type TencentCloudSDKError struct{ Message string }

func (e *TencentCloudSDKError) Error() string { return e.Message }
