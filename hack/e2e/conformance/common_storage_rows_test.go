package conformance

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// storageRows are the rows of common/storage: most differ in a kind of volume, a mode, a user or a medium only.
func storageRows() map[string]func(*row) {
	rows := map[string]func(*row){
		"CS-001": configMapBinary,
		"CS-002": configMap.optionals,
		"CS-003": reading{kind: configMap}.row,
		"CS-004": reading{kind: configMap, user: 1000}.row,
		"CS-005": reading{kind: configMap, mode: 0o400, seen: "-r--------"}.row,
		"CS-006": reading{kind: configMap, item: item(nil)}.row,
		"CS-007": reading{kind: configMap, item: item(new(int32(0o400))), seen: "-r--------"}.row,
		"CS-008": reading{kind: configMap, item: item(nil), user: 1000}.row,
		"CS-009": configMap.twice,
		"CS-010": configMap.immutable,
		"CS-011": configMap.updates,

		"CS-023": emptyDirShared,
		"CS-036": openToAll(corev1.StorageMediumDefault),
		"CS-037": openToAll(corev1.StorageMediumMemory),

		"CS-038": projectedTogether,
		"CS-039": projectedConfigMap.optionals,
		"CS-040": reading{kind: projectedConfigMap}.row,
		"CS-041": reading{kind: projectedConfigMap, user: 1000}.row,
		"CS-042": reading{kind: projectedConfigMap, mode: 0o400, seen: "-r--------"}.row,
		"CS-043": reading{kind: projectedConfigMap, item: item(nil)}.row,
		"CS-044": reading{kind: projectedConfigMap, item: item(new(int32(0o400))), seen: "-r--------"}.row,
		"CS-045": reading{kind: projectedConfigMap, item: item(nil), user: 1000}.row,
		"CS-046": projectedConfigMap.twice,
		"CS-047": projectedConfigMap.updates,

		"CS-059": projectedSecret.optionals,
		"CS-060": reading{kind: projectedSecret}.row,
		"CS-061": reading{kind: projectedSecret, mode: 0o440, user: 1000, group: 1001, seen: "-r--r-----"}.row,
		"CS-062": reading{kind: projectedSecret, mode: 0o400, seen: "-r--------"}.row,
		"CS-063": reading{kind: projectedSecret, item: item(nil)}.row,
		"CS-064": reading{kind: projectedSecret, item: item(new(int32(0o400))), seen: "-r--------"}.row,
		"CS-065": projectedSecret.twice,

		"CS-066": secret.optionals,
		"CS-067": secretOfOtherNamespace,
		"CS-068": reading{kind: secret}.row,
		"CS-069": reading{kind: secret, mode: 0o440, user: 1000, group: 1001, seen: "-r--r-----"}.row,
		"CS-070": reading{kind: secret, mode: 0o400, seen: "-r--------"}.row,
		"CS-071": reading{kind: secret, item: item(nil)}.row,
		"CS-072": reading{kind: secret, item: item(new(int32(0o400))), seen: "-r--------"}.row,
		"CS-073": secret.twice,
		"CS-074": secret.immutable,
	}
	maps.Copy(rows, emptyDirRows())
	maps.Copy(rows, downwardRows(12, false))
	maps.Copy(rows, downwardRows(48, true))
	return rows
}

// emptyDirRows are CS-024 to CS-035: users, then modes, then media.
func emptyDirRows() map[string]func(*row) {
	rows, number := map[string]func(*row){}, 24
	for _, user := range []int64{1001, 0} {
		for _, mode := range []uint32{0o644, 0o666, 0o777} {
			for _, medium := range []corev1.StorageMedium{corev1.StorageMediumDefault, corev1.StorageMediumMemory} {
				rows[fmt.Sprintf("CS-%03d", number)] = newFile(mode, medium, user)
				number++
			}
		}
	}
	return rows
}

// downwardRows are CS-012 to CS-022, and the same of projected volumes, CS-048 to CS-058.
func downwardRows(first int, projected bool) map[string]func(*row) {
	rows := map[string]func(*row){}
	for i, row := range []func(*row){
		told{projected: projected, resource: "limits.cpu", want: "2"}.row,
		told{projected: projected, resource: "requests.cpu", want: "1"}.row,
		told{projected: projected, resource: "limits.memory", want: "67108864"}.row,
		told{projected: projected, resource: "requests.memory", want: "33554432"}.row,
		told{projected: projected, resource: "limits.cpu", unlimited: true}.row,
		told{projected: projected, resource: "limits.memory", unlimited: true}.row,
		told{projected: projected, field: "metadata.name", want: "reader"}.row,
		told{projected: projected, field: "metadata.name", want: "reader", mode: 0o400, seen: "-r--------"}.row,
		told{projected: projected, field: "metadata.name", want: "reader", itemMode: 0o400, seen: "-r--------"}.row,
		tellsChanges(projected, "annotations"),
		tellsChanges(projected, "labels"),
	} {
		rows[fmt.Sprintf("CS-%03d", first+i)] = row
	}
	return rows
}
